/* The loops over columns of messages, compiled.

   Each function here has a twin in Python that says what is right, and does the same for less. It takes
   only what is ordinary: at the first message that is not, it stops and leaves the rest to its twin.
   So nothing is refused here, no error is worded here, and no rule is written here alone.

   Cipher, hash, LZ4, CRC-32 and sockets are those of the libraries that the Python packages carry;
   `bind` is told where they are (see `consumer.columns`). Only the CRC-32 of long records is our own, where
   the processor has carry-less products, and ends with zlib's. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

typedef unsigned char u8;

static int (*sodium_decrypt)(u8 *, unsigned long long *, u8 *, const u8 *, unsigned long long,
                             const u8 *, unsigned long long, const u8 *, const u8 *);
static int (*sodium_blake2b)(u8 *, size_t, const u8 *, unsigned long long, const u8 *, size_t);
static int (*lz4_decompress)(const char *, char *, int, int);
static unsigned long (*zlib_crc32)(unsigned long, const u8 *, unsigned int);

/* As libzmq promises it: 64 bytes, aligned for a pointer. */
typedef union { u8 bytes[64]; void *aligned; } zmq_message;
static int (*zmq_init)(zmq_message *);
static int (*zmq_receive)(zmq_message *, void *, int);
static void *(*zmq_data)(zmq_message *);
static size_t (*zmq_size)(const zmq_message *);
static int (*zmq_more)(const zmq_message *);
static int (*zmq_close)(zmq_message *);
enum { ZMQ_DONTWAIT = 1 };

enum { NONCE = 12, TAG = 16, SIZE = 4, SECRET = 32, LZ4_RATIO = 255, DIGEST = 16 };
static const int64_t NS = 1000000000;

static uint32_t get32(const u8 *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get64(const u8 *at) { return get32(at) | (uint64_t)get32(at + 4) << 32; }

static u8 *put32(u8 *to, uint32_t value) {
    for (int byte = 0; byte < 4; byte++) *to++ = (u8)(value >> 8 * byte);
    return to;
}

static u8 *put64(u8 *to, uint64_t value) {
    return put32(put32(to, (uint32_t)value), (uint32_t)(value >> 32));
}

static PyObject *bind(PyObject *self, PyObject *args) {
    unsigned long long at[10];
    if (!PyArg_ParseTuple(args, "KKKKKKKKKK", at, at + 1, at + 2, at + 3, at + 4, at + 5, at + 6,
                          at + 7, at + 8, at + 9))
        return NULL;
    /* ISO C knows no way from a number to a function; every system with dlsym has this one. */
    sodium_decrypt = (void *)(uintptr_t)at[0];
    sodium_blake2b = (void *)(uintptr_t)at[1];
    lz4_decompress = (void *)(uintptr_t)at[2];
    zlib_crc32 = (void *)(uintptr_t)at[3];
    zmq_init = (void *)(uintptr_t)at[4];
    zmq_receive = (void *)(uintptr_t)at[5];
    zmq_data = (void *)(uintptr_t)at[6];
    zmq_size = (void *)(uintptr_t)at[7];
    zmq_more = (void *)(uintptr_t)at[8];
    zmq_close = (void *)(uintptr_t)at[9];
    Py_RETURN_NONE;
}

/* --- off the socket: the twin is `Link.burst` --- */

static int take(zmq_message *message, void *socket) {
    int size;
    do size = zmq_receive(message, socket, ZMQ_DONTWAIT);
    while (size < 0 && errno == EINTR);
    return size;
}

static PyObject *receive(PyObject *self, PyObject *args) {
    unsigned long long socket;
    Py_ssize_t most, room, largest, malformed = 0, oversize = 0;
    if (!PyArg_ParseTuple(args, "Knnn", &socket, &most, &room, &largest)) return NULL;
    PyObject *messages = PyList_New(0);
    if (messages == NULL) return NULL;
    zmq_message message;
    zmq_init(&message);
    int error = 0;
    for (; most > 0 && room > 0; most--) {
        if (take(&message, (void *)(uintptr_t)socket) < 0) {
            error = errno;
            break;
        }
        if (zmq_more(&message)) {
            malformed++;
            /* ZeroMQ delivers the parts of a message together, so none of these can be missing. */
            while (zmq_more(&message) && take(&message, (void *)(uintptr_t)socket) >= 0) {}
            continue;
        }
        Py_ssize_t size = (Py_ssize_t)zmq_size(&message);
        if (size > largest) {
            oversize++;
            continue;
        }
        PyObject *copy = PyBytes_FromStringAndSize(zmq_data(&message), size);
        if (copy == NULL) goto failed;
        int kept = PyList_Append(messages, copy);
        Py_DECREF(copy);
        if (kept < 0) goto failed;
        room -= size;
    }
    zmq_close(&message);
    return Py_BuildValue("Nnni", messages, malformed, oversize, error);
failed:
    zmq_close(&message);
    Py_DECREF(messages);
    return NULL;
}

/* --- opening: the twin is `ChaCha.open_run` --- */

/* Keep the first `count` of a list. */
static int cut(PyObject *list, Py_ssize_t count) {
    return PyList_SetSlice(list, count, PyList_GET_SIZE(list), NULL);
}

static PyObject *open_v1(PyObject *self, PyObject *args) {
    PyObject *given, *messages, *payloads = NULL, *blocks = NULL, *counters = NULL, *result = NULL;
    const char *secret;
    Py_ssize_t secret_bytes, limit, count, opened = 0, whole = 0, longest = 0;
    u8 *plaintext = NULL;
    uint32_t *sizes = NULL;
    if (!PyArg_ParseTuple(args, "Oy#n", &given, &secret, &secret_bytes, &limit)) return NULL;
    if (secret_bytes != SECRET) return PyErr_Format(PyExc_ValueError, "a key has 32 bytes");
    /* A tuple of our own: while the interpreter is free, nobody can change it. */
    if ((messages = PySequence_Tuple(given)) == NULL) return NULL;
    count = PyTuple_GET_SIZE(messages);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *message = PyTuple_GET_ITEM(messages, i);
        if (!PyBytes_CheckExact(message)) {
            PyErr_SetString(PyExc_TypeError, "a message is bytes");
            goto done;
        }
        if (PyBytes_GET_SIZE(message) <= NONCE + SIZE + TAG) {
            count = i;
            break;
        }
        if (PyBytes_GET_SIZE(message) > longest) longest = PyBytes_GET_SIZE(message);
    }
    payloads = PyList_New(0);
    blocks = PyList_New(0);
    counters = PyList_New(0);
    plaintext = PyMem_Malloc((size_t)longest + 1);
    sizes = PyMem_Malloc(sizeof *sizes * (size_t)(count + 1));
    if (!payloads || !blocks || !counters || !plaintext || !sizes) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t size = PyBytes_GET_SIZE(PyTuple_GET_ITEM(messages, i)) - NONCE - SIZE - TAG;
        PyObject *block = PyBytes_FromStringAndSize(NULL, size);
        if (block == NULL || PyList_Append(blocks, block) < 0) {
            Py_XDECREF(block);
            goto done;
        }
        Py_DECREF(block);
    }
    Py_BEGIN_ALLOW_THREADS
    for (; opened < count; opened++) {
        PyObject *message = PyTuple_GET_ITEM(messages, opened);
        const u8 *sealed = (const u8 *)PyBytes_AS_STRING(message);
        PyObject *block = PyList_GET_ITEM(blocks, opened);
        size_t stored = (size_t)PyBytes_GET_SIZE(block);
        if (sodium_decrypt(plaintext, NULL, NULL, sealed + NONCE, stored + SIZE + TAG, NULL, 0,
                           sealed, (const u8 *)secret) != 0)
            break;
        sizes[opened] = get32(plaintext);
        if (sizes[opened] == 0 || sizes[opened] > INT32_MAX || stored > INT32_MAX ||
            (Py_ssize_t)sizes[opened] > limit || sizes[opened] > (uint64_t)stored * LZ4_RATIO)
            break;
        memcpy(PyBytes_AS_STRING(block), plaintext + SIZE, stored);
    }
    Py_END_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < opened; i++) {
        PyObject *payload = PyBytes_FromStringAndSize(NULL, sizes[i]);
        if (payload == NULL || PyList_Append(payloads, payload) < 0) {
            Py_XDECREF(payload);
            goto done;
        }
        Py_DECREF(payload);
    }
    Py_BEGIN_ALLOW_THREADS
    for (; whole < opened; whole++) {
        PyObject *block = PyList_GET_ITEM(blocks, whole);
        char *to = PyBytes_AS_STRING(PyList_GET_ITEM(payloads, whole));
        int stored = (int)PyBytes_GET_SIZE(block), size = (int)sizes[whole];
        if (lz4_decompress(PyBytes_AS_STRING(block), to, stored, size) != size) break;
    }
    Py_END_ALLOW_THREADS
    if (cut(blocks, whole) < 0 || cut(payloads, whole) < 0) goto done;
    for (Py_ssize_t i = 0; i < whole; i++) {
        const u8 *nonce = (const u8 *)PyBytes_AS_STRING(PyTuple_GET_ITEM(messages, i));
        PyObject *counter = Py_None;
        if (get32(nonce) != 0) Py_INCREF(counter);
        else counter = PyLong_FromUnsignedLongLong(get64(nonce + 4));
        if (counter == NULL || PyList_Append(counters, counter) < 0) {
            Py_XDECREF(counter);
            goto done;
        }
        Py_DECREF(counter);
    }
    result = PyTuple_Pack(3, payloads, blocks, counters);
done:
    Py_XDECREF(payloads);
    Py_XDECREF(blocks);
    Py_XDECREF(counters);
    Py_DECREF(messages);
    PyMem_Free(plaintext);
    PyMem_Free(sizes);
    return result;
}

/* --- admission: the twin is `consumer.wire.admission.marks` --- */

/* A varint below 2^64; its end, or NULL if it is cut off, too long or too large. */
static const u8 *varint(const u8 *at, const u8 *end, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 70 && at < end; shift += 7) {
        u8 byte = *at++;
        if (shift == 63 && byte > 1) return NULL;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return at;
    }
    return NULL;
}

/* A tag or a length: 32 bits in at most five bytes, or it is no protobuf. */
static const u8 *short_varint(const u8 *at, const u8 *end, uint64_t *value) {
    const u8 *after = varint(at, end, value);
    return after == NULL || after - at > 5 || *value > UINT32_MAX ? NULL : after;
}

typedef struct { const u8 *at; size_t size; } part;

/* A part that says its length; its end, or NULL if it is cut off. */
static const u8 *sized(const u8 *at, const u8 *end, part *found) {
    uint64_t size;
    if ((at = short_varint(at, end, &size)) == NULL || size > (uint64_t)(end - at)) return NULL;
    found->at = at;
    found->size = (size_t)size;
    return at + size;
}

/* The end of the value of a field that nobody asked for; NULL if it is cut off or a group. */
static const u8 *skip(const u8 *at, const u8 *end, unsigned wire) {
    uint64_t value;
    part rest;
    switch (wire) {
    case 0: return varint(at, end, &value);
    case 1: return end - at < 8 ? NULL : at + 8;
    case 2: return sized(at, end, &rest);
    case 5: return end - at < 4 ? NULL : at + 4;
    default: return NULL;
    }
}

static int is_ascii(const part *text) {
    u8 seen = 0;
    for (size_t i = 0; i < text->size; i++) seen |= text->at[i];
    return seen < 0x80;
}

/* google.protobuf.Timestamp, ns; false if there is anything unusual about it. */
static int read_stamp(const part *stamp, int64_t *ns) {
    const u8 *at = stamp->at, *end = at + stamp->size;
    uint64_t seconds = 0, nanos = 0;
    for (unsigned last = 0; at < end;) {
        unsigned tag = *at++;
        if ((tag != 8 && tag != 16) || tag <= last) return 0;
        last = tag;
        if ((at = varint(at, end, tag == 8 ? &seconds : &nanos)) == NULL) return 0;
    }
    /* Nobody's own time is before 1970, or after 2262, where an int64 of nanoseconds ends. */
    if (seconds > (uint64_t)(INT64_MAX / NS) - 1 || nanos >= (uint64_t)NS) return 0;
    *ns = (int64_t)seconds * NS + (int64_t)nanos;
    return 1;
}

/* Field numbers are those of proto/admission.proto. */
enum { EVENT_ID = 1, STAMP = 2, NODE = 3 };

/* What identifies an event; false if there is anything unusual about how it says so. */
static int read_event(const u8 *at, const u8 *end, int64_t *ns, part *node, part *event_id) {
    part stamp = {NULL, 0};
    part *wanted[] = {[EVENT_ID] = event_id, [STAMP] = &stamp, [NODE] = node};
    while (at < end) {
        uint64_t tag;
        if ((at = short_varint(at, end, &tag)) == NULL || tag < 8) return 0;
        unsigned wire = tag & 7, field = (unsigned)(tag >> 3);
        if (field > NODE) at = skip(at, end, wire);
        else if (wire != 2 || wanted[field]->at != NULL) return 0;
        else at = sized(at, end, wanted[field]);
        if (at == NULL) return 0;
    }
    return event_id->size > 0 && is_ascii(event_id) && is_ascii(node) && stamp.at != NULL &&
           read_stamp(&stamp, ns);
}

/* See `consumer.wire.identity`: three lengths, a 128-bit time, node and id, through BLAKE2b. */
static int digest_of(u8 *to, const part *node, const part *event_id, int64_t ns) {
    enum { HEAD = 28, LONGEST = 4096 };
    u8 said[LONGEST];
    if (node->size > 1024 || event_id->size > 1024) return 0;
    u8 *at = put32(put32(put32(said, (uint32_t)node->size), (uint32_t)event_id->size), 0);
    at = put64(put64(at, 0), (uint64_t)ns);
    if (node->size) memcpy(at, node->at, node->size);
    memcpy(at + node->size, event_id->at, event_id->size);
    size_t size = HEAD + node->size + event_id->size;
    return sodium_blake2b(to, DIGEST, said, size, NULL, 0) == 0;
}

static PyObject *marks(PyObject *self, PyObject *args) {
    PyObject *given, *payloads, *times = NULL, *digests = NULL, *result = NULL;
    int timed;
    if (!PyArg_ParseTuple(args, "Op", &given, &timed)) return NULL;
    if ((payloads = PySequence_Fast(given, "payloads")) == NULL) return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(payloads);
    times = PyList_New(0);
    digests = PyList_New(0);
    if (times == NULL || digests == NULL) goto done;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *payload = PySequence_Fast_GET_ITEM(payloads, i);
        if (!PyBytes_CheckExact(payload)) {
            PyErr_SetString(PyExc_TypeError, "a payload is bytes");
            goto done;
        }
        const u8 *at = (const u8 *)PyBytes_AS_STRING(payload);
        part node = {NULL, 0}, event_id = {NULL, 0};
        int64_t ns;
        u8 digest[DIGEST];
        if (!read_event(at, at + PyBytes_GET_SIZE(payload), &ns, &node, &event_id) ||
            !digest_of(digest, &node, &event_id, timed ? ns : 0)) {
            result = Py_NewRef(Py_None);
            goto done;
        }
        PyObject *time = PyLong_FromLongLong(ns);
        PyObject *mark = PyBytes_FromStringAndSize((char *)digest, DIGEST);
        int failed = time == NULL || mark == NULL || PyList_Append(times, time) < 0 ||
                     PyList_Append(digests, mark) < 0;
        Py_XDECREF(time);
        Py_XDECREF(mark);
        if (failed) goto done;
    }
    result = PyTuple_Pack(2, times, digests);
done:
    Py_XDECREF(times);
    Py_XDECREF(digests);
    Py_DECREF(payloads);
    return result;
}

/* --- CRC-32, which zlib takes a microsecond for where the processor needs a tenth --- */

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* Carry-less products fold 64 bytes into 64, then 16 into 16, and at last the rest into 32 bits: V. Gopal et al.,
   "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009. The constants are powers
   of x modulo the polynomial 0x104c11db7, bits reversed: x^(4*128+32), x^(4*128-32), x^(128+32), x^(128-32), x^64;
   then the polynomial and its inverse. `count` is a multiple of 16 and at least 64; `crc` is not inverted. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t fold_crc(uint32_t crc, const u8 *at, size_t count) {
    const __m128i by_512 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_128 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    const __m128i by_64 = _mm_set_epi64x(0, 0x0163cd6124);
    const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
    const __m128i low = _mm_set_epi32(0, ~0, 0, ~0);
    const __m128i *block = (const __m128i *)at;
    __m128i lane[4];
    for (int i = 0; i < 4; i++) lane[i] = _mm_loadu_si128(block + i);
    lane[0] = _mm_xor_si128(lane[0], _mm_cvtsi32_si128((int)crc));
    for (block += 4, count -= 64; count >= 64; block += 4, count -= 64) {
        for (int i = 0; i < 4; i++) {
            __m128i folded = _mm_xor_si128(_mm_clmulepi64_si128(lane[i], by_512, 0x00),
                                           _mm_clmulepi64_si128(lane[i], by_512, 0x11));
            lane[i] = _mm_xor_si128(folded, _mm_loadu_si128(block + i));
        }
    }
    __m128i all = lane[0];
    for (int i = 1; i < 4; i++) {
        all = _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(all, by_128, 0x00),
                                          _mm_clmulepi64_si128(all, by_128, 0x11)),
                            lane[i]);
    }
    for (; count >= 16; block++, count -= 16) {
        all = _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(all, by_128, 0x00),
                                          _mm_clmulepi64_si128(all, by_128, 0x11)),
                            _mm_loadu_si128(block));
    }
    all = _mm_xor_si128(_mm_srli_si128(all, 8), _mm_clmulepi64_si128(all, by_128, 0x10));
    all = _mm_xor_si128(_mm_srli_si128(all, 4),
                        _mm_clmulepi64_si128(_mm_and_si128(all, low), by_64, 0x00));
    __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(all, low), barrett, 0x10);
    all = _mm_xor_si128(all, _mm_clmulepi64_si128(_mm_and_si128(quotient, low), barrett, 0x00));
    return (uint32_t)_mm_extract_epi32(all, 1);
}

static uint32_t crc_of(const u8 *at, uint32_t count) {
    uint32_t folded = count & ~(uint32_t)15;
    if (folded < 64 || !__builtin_cpu_supports("pclmul") || !__builtin_cpu_supports("sse4.1"))
        return (uint32_t)zlib_crc32(0, at, count);
    return (uint32_t)zlib_crc32(~fold_crc(~(uint32_t)0, at, folded), at + folded, count - folded);
}
#else
static uint32_t crc_of(const u8 *at, uint32_t count) { return (uint32_t)zlib_crc32(0, at, count); }
#endif

/* --- into the journal: the twin is `consumer.journal.record.encode` --- */

/* The columns of `consumer.wire.admitted.Batch`, without the day. */
enum { TIME, OWN_TIME, MARK, ARRIVAL, PAYLOAD, RAW_SIZE, COMPRESSED, COLUMNS };
enum { FRAME_HEAD = 8, RECORD_HEAD = 37 };

static PyObject *encode(PyObject *self, PyObject *args) {
    PyObject *column[COLUMNS], *records = NULL;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!O!O!", &PyList_Type, column, &PyList_Type, column + 1,
                          &PyList_Type, column + 2, &PyList_Type, column + 3, &PyList_Type,
                          column + 4, &PyList_Type, column + 5, &PyList_Type, column + 6))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(column[MARK]), size = 0;
    for (int i = 0; i < COLUMNS; i++) {
        if (PyList_GET_SIZE(column[i]) != count)
            return PyErr_Format(PyExc_ValueError, "a column has as many entries as there are events");
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *payload = PyList_GET_ITEM(column[PAYLOAD], i);
        PyObject *mark = PyList_GET_ITEM(column[MARK], i);
        if (!PyBytes_CheckExact(payload) || PyBytes_GET_SIZE(payload) > INT32_MAX ||
            !PyBytes_CheckExact(mark) || PyBytes_GET_SIZE(mark) != DIGEST)
            goto unusual;
        size += FRAME_HEAD + RECORD_HEAD + PyBytes_GET_SIZE(payload);
    }
    if ((records = PyBytes_FromStringAndSize(NULL, size)) == NULL) return NULL;
    u8 *to = (u8 *)PyBytes_AS_STRING(records);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *payload = PyList_GET_ITEM(column[PAYLOAD], i);
        long long time_ns = PyLong_AsLongLong(PyList_GET_ITEM(column[TIME], i));
        long long arrival_ns = PyLong_AsLongLong(PyList_GET_ITEM(column[ARRIVAL], i));
        unsigned long raw_size = PyLong_AsUnsignedLong(PyList_GET_ITEM(column[RAW_SIZE], i));
        int own_time = PyList_GET_ITEM(column[OWN_TIME], i) == Py_True;
        int compressed = PyList_GET_ITEM(column[COMPRESSED], i) == Py_True;
        if (PyErr_Occurred() || raw_size > UINT32_MAX) goto unusual;
        size_t stored = (size_t)PyBytes_GET_SIZE(payload);
        u8 *body = to + FRAME_HEAD, *at = put64(put64(body, (uint64_t)time_ns), (uint64_t)arrival_ns);
        memcpy(at, PyBytes_AS_STRING(PyList_GET_ITEM(column[MARK], i)), DIGEST);
        at += DIGEST;
        *at++ = (u8)(compressed | own_time << 1);
        at = put32(at, (uint32_t)raw_size);
        memcpy(at, PyBytes_AS_STRING(payload), stored);
        uint32_t length = (uint32_t)(RECORD_HEAD + stored);
        put32(put32(to, length), crc_of(body, length));
        to = at + stored;
    }
    return records;
unusual:
    PyErr_Clear();
    Py_XDECREF(records);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"bind", bind, METH_VARARGS, NULL},
    {"receive", receive, METH_VARARGS, NULL},
    {"open_v1", open_v1, METH_VARARGS, NULL},
    {"marks", marks, METH_VARARGS, NULL},
    {"encode", encode, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "consumer.columns._compiled", NULL, -1, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__compiled(void) {
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddIntConstant(made, "VERSION", 2) < 0) Py_CLEAR(made);
    return made;
}
