/* A disk that lies or limps, for LD_PRELOAD.
 *
 * BAD_DISK names a file. While it holds "eio", every fsync and fdatasync fails with EIO;
 * while it holds a number, each takes so many milliseconds longer; while it is not there, nothing
 * is different. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fault(void)
{
    const char *path = getenv("BAD_DISK");
    char said[16] = {0};
    int saved = errno, fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || read(fd, said, sizeof said - 1) < 0)
        said[0] = 0;
    if (fd >= 0)
        close(fd);
    errno = saved;
    if (strncmp(said, "eio", 3) == 0) {
        errno = EIO;
        return -1;
    }
    long ms = strtol(said, NULL, 10);
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    if (ms > 0)
        nanosleep(&pause, NULL);
    return 0;
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fault() ? -1 : real(fd);
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fault() ? -1 : real(fd);
}
