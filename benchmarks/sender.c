/* Seals and sends as a detector does, which is no Python either: see `benchmarks.sender`. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef unsigned char u8;
typedef union { u8 bytes[64]; void *aligned; } zmq_message;

typedef struct {
    int (*encrypt)(u8 *, unsigned long long *, const u8 *, unsigned long long, const u8 *,
                   unsigned long long, const u8 *, const u8 *, const u8 *);
    int (*init_size)(zmq_message *, size_t);
    void *(*data)(zmq_message *);
    int (*send)(zmq_message *, void *, int);
    int (*close)(zmq_message *);
    void *socket;
    const u8 *secret;
    uint32_t models;
    const u8 *const *plaintexts;
    const uint32_t *sizes;
    const uint32_t *digits_at;
    int flags;
    long dropped;
} sender;

enum { NONCE = 12, TAG = 16, DIGITS = 12, LONGEST = 1 << 20 };

/* Messages number `first` to `first + count`; returns how many were sent. */
long send_run(sender *s, uint64_t first, uint64_t counter, long count) {
    static u8 plaintext[LONGEST];
    for (long done = 0; done < count; done++, counter++) {
        uint32_t model = (uint32_t)((first + (uint64_t)done) % s->models);
        uint32_t size = s->sizes[model];
        char digits[32];
        u8 nonce[NONCE] = {0};
        zmq_message message;
        if (size > LONGEST) return done;
        memcpy(plaintext, s->plaintexts[model], size);
        snprintf(digits, sizeof digits, "%012llu", (unsigned long long)first + (uint64_t)done);
        memcpy(plaintext + s->digits_at[model], digits, DIGITS);
        for (int byte = 0; byte < 8; byte++) nonce[4 + byte] = (u8)(counter >> 8 * byte);
        if (s->init_size(&message, NONCE + size + TAG) != 0) return done;
        u8 *to = s->data(&message);
        memcpy(to, nonce, NONCE);
        s->encrypt(to + NONCE, NULL, plaintext, size, NULL, 0, NULL, nonce, s->secret);
        if (s->send(&message, s->socket, s->flags) < 0) {
            if (errno != EAGAIN) return done;
            s->close(&message);
            s->dropped++;
        }
    }
    return count;
}
