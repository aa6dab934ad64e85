/* A library for LD_PRELOAD that ends a process by SIGKILL just before its write number KILL_AT, as if the machine had lost its
 * power there: tests/terraform.sh interrupts mkfs.xfs with it at each write in turn. Counts pwrite alone, which is what it uses. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    static int left = -1;
    const char *at = getenv("KILL_AT");
    if (!next) next = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    if (left < 0) left = at ? atoi(at) : 0;
    if (left > 0 && --left == 0) kill(getpid(), SIGKILL);
    return next(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }
