/*
 * Power loss, first half: a journal of what a process does to the files under one directory.
 *
 * kill -9 alone proves nothing about fsync, because the page cache survives it. So the server runs with this library
 * in LD_PRELOAD. It writes down, in order, every call that changes a file or a directory under POWER_ROOT, with the bytes,
 * and every call that makes something durable. After a kill the test (disk.rs) computes from the journal what a disk
 * would have kept, and puts that in the directory's place.
 *
 *   POWER_ROOT           the directory, an absolute path without symbolic links; without it this library does nothing
 *   POWER_JOURNAL        the journal, a file outside of it; appended to, so that several processes in a row share one
 *   POWER_CUT            a file of one 64-bit number N: while it is above 0, each operation counts it down, and the process
 *                        kills itself instead of the one that would make it 0
 *   POWER_SYNC_DELAY_US  each sync takes a random time up to this
 *
 * Build: cc -shared -fPIC -O2 -o power.so power.c
 *
 * How it is kept true
 * - One lock around each operation and its records: the journal's order is the order of the operations. Only the time
 *   between the begin and the end of a sync is outside of it, so that other threads write meanwhile, as they could.
 * - The record comes before the operation and its result after it, each with one write(2). What was written to a file
 *   survives the process, so a kill leaves a readable journal, whose last operation may or may not have been done.
 * - Syncs are not passed on: the disk they would wait for is the test's model, and the machine is not losing power.
 * - Calls go to the kernel directly (syscall), so nothing here depends on the order in which libraries are loaded.
 * - What is not modelled and could change a file is refused and written down, and the test fails: shared writable
 *   mappings, fallocate, truncate by path, symbolic links. What has an ordinary fallback is declined: copy_file_range,
 *   sendfile, splice. sync_file_range, sync and syncfs promise nothing here; O_SYNC and O_DSYNC neither.
 * - What goes around the C library (a raw system call, io_uring) cannot be seen here. The test compares the directory with
 *   the journal after each kill and fails if they differ, so a change that went by unseen is noticed. A sync that went
 *   by unseen makes the model harsher, never milder.
 */
#undef _FORTIFY_SOURCE /* its inline variants of these functions would collide with ours */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* ---- the journal's format: known to journal.rs too; native byte order, it never leaves the machine ---- */

#define MAGIC 0x52575054u

enum kind {
    START = 1,   /* a process begins: no file is open */
    OPEN,        /* first: path; flags: CREATES, TRUNCATES; result: the descriptor */
    RESULT,      /* number: what the operation before it returned, -1 for an error */
    WRITE,       /* fd; number: offset in the file; data: the bytes; result: how many were written */
    TRUNCATE,    /* fd; number: the new length */
    SYNC_BEGIN,  /* fd; number: which sync */
    SYNC_END,    /* number: which sync */
    RENAME,      /* first: old path; second: new path */
    LINK,        /* first: old path; second: new path */
    UNLINK,      /* first: path */
    MKDIR,       /* first: path */
    RMDIR,       /* first: path */
    CLOSE,       /* fd */
    DUP,         /* fd; result: the new descriptor */
    REFUSED,     /* first: what was called */
};

enum { CREATES = 1, TRUNCATES = 2 };

struct record {
    uint32_t magic;
    uint16_t kind;
    uint16_t flags;
    int32_t fd;
    uint32_t first;  /* bytes of the first text, which follows */
    uint32_t second; /* bytes of the second text, which follows it */
    uint32_t data;   /* bytes of data, which follow that */
    int64_t number;
};

/* The variants for large files are the same functions where off_t has 64 bits. */
#define ALSO(name, of) extern __typeof(of) name __attribute__((alias(#of)));

/* ---- state ---- */

#define MAX_FDS 65536

struct file {
    _Atomic int known; /* a file or directory under the root */
    dev_t dev;
    ino_t ino;
};

static struct file files[MAX_FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_len; /* 0: do nothing */
static int journal = -1;
static long sync_delay_us;
static volatile int64_t *cut;
static int64_t syncs;
static char *buffer;
static size_t buffer_len;

static void die(const char *what)
{
    char text[256];
    int len = snprintf(text, sizeof text, "power.c: %s (errno %d)\n", what, errno);
    syscall(SYS_write, 2, text, len);
    abort();
}

__attribute__((constructor)) static void start(void)
{
    const char *directory = getenv("POWER_ROOT"), *path = getenv("POWER_JOURNAL");
    const char *delay = getenv("POWER_SYNC_DELAY_US"), *cut_path = getenv("POWER_CUT");
    if (!directory)
        return;
    if (!path || !delay || !cut_path)
        die("POWER_JOURNAL, POWER_CUT and POWER_SYNC_DELAY_US are needed too");
    if (directory[0] != '/' || strlen(directory) >= sizeof root)
        die("POWER_ROOT is not an absolute path");
    sync_delay_us = atol(delay);
    int cut_file = syscall(SYS_openat, AT_FDCWD, cut_path, O_RDWR | O_CLOEXEC);
    cut = (void *)syscall(SYS_mmap, NULL, sizeof *cut, (long)(PROT_READ | PROT_WRITE), (long)MAP_SHARED, (long)cut_file, 0L);
    if (cut_file < 0 || cut == MAP_FAILED)
        die("POWER_CUT cannot be mapped");
    journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (journal < 0)
        die("the journal cannot be opened");
    struct record begin = {.magic = MAGIC, .kind = START, .number = getpid()};
    if (syscall(SYS_write, journal, &begin, sizeof begin) != sizeof begin)
        die("the journal cannot be written");
    strcpy(root, directory);
    root_len = strlen(root);
}

/* ---- writing records; the lock is held ---- */

static void record(enum kind kind, int flags, int fd, int64_t number, const char *first, const char *second,
                   const struct iovec *parts, int count)
{
    struct record head = {.magic = MAGIC, .kind = kind, .flags = flags, .fd = fd, .number = number};
    size_t data = 0;
    for (int i = 0; i < count; i++)
        data += parts[i].iov_len;
    head.first = first ? strlen(first) : 0;
    head.second = second ? strlen(second) : 0;
    head.data = data;
    size_t len = sizeof head + head.first + head.second + data;
    if (len > buffer_len) {
        buffer = realloc(buffer, len);
        buffer_len = len;
        if (!buffer)
            die("no memory");
    }
    char *at = buffer;
    memcpy(at, &head, sizeof head), at += sizeof head;
    memcpy(at, first ? first : "", head.first), at += head.first;
    memcpy(at, second ? second : "", head.second), at += head.second;
    for (int i = 0; i < count; i++)
        memcpy(at, parts[i].iov_base, parts[i].iov_len), at += parts[i].iov_len;
    for (size_t done = 0; done < len;) {
        ssize_t n = syscall(SYS_write, journal, buffer + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            die("the journal cannot be written");
        done += n;
    }
}

/* An operation is about to be done, or the process is to end here. */
static void operation(enum kind kind, int flags, int fd, int64_t number, const char *first, const char *second,
                      const struct iovec *parts, int count)
{
    if (*cut > 0 && --*cut == 0) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    record(kind, flags, fd, number, first, second, parts, count);
}

/* It was done: its result, with errno kept for the caller. */
static long result(long value)
{
    int error = errno;
    record(RESULT, 0, -1, value, NULL, NULL, NULL, 0);
    errno = error;
    return value;
}

/* Written down so that the test fails, whatever the process makes of the error. */
static int refused(const char *call, int error)
{
    pthread_mutex_lock(&lock);
    record(REFUSED, 0, -1, 0, call, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return -1;
}

/* ---- which files ---- */

/* Takes "//", "/." and "/.." out of an absolute path, by its text alone. */
static void normalise(char *path)
{
    char *to = path;
    for (const char *from = path; *from;) {
        while (*from == '/')
            from++;
        size_t len = strcspn(from, "/");
        if (len == 2 && from[0] == '.' && from[1] == '.') {
            while (to > path && *--to != '/')
                ;
        } else if (len > 0 && !(len == 1 && from[0] == '.')) {
            *to++ = '/';
            memmove(to, from, len);
            to += len;
        }
        from += len;
    }
    *to = 0;
}

/* Whether `path` is under the root, and then what it is there; the root itself is "". */
static int under_root(int dirfd, const char *path, char relative[PATH_MAX])
{
    char whole[2 * PATH_MAX];
    if (!root_len || !path)
        return 0;
    if (path[0] == '/') {
        if (strlen(path) >= sizeof whole)
            return 0;
        strcpy(whole, path);
    } else {
        char base[PATH_MAX], link[64];
        ssize_t len;
        if (dirfd == AT_FDCWD)
            strcpy(link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        len = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
        if (len < 0 || len + strlen(path) + 2 > sizeof whole)
            return 0;
        memcpy(whole, base, len);
        whole[len] = '/';
        strcpy(whole + len + 1, path);
    }
    normalise(whole);
    if (strncmp(whole, root, root_len) || (whole[root_len] && whole[root_len] != '/'))
        return 0;
    const char *rest = whole + root_len + (whole[root_len] == '/');
    if (strlen(rest) >= PATH_MAX)
        die("a path is too long");
    strcpy(relative, rest);
    return 1;
}

/* From now on `fd` is a file under the root. */
static void know(int fd)
{
    struct stat stat;
    if (fd >= MAX_FDS)
        die("too many open files");
    if (fstat(fd, &stat))
        die("fstat");
    files[fd].dev = stat.st_dev;
    files[fd].ino = stat.st_ino;
    atomic_store(&files[fd].known, 1);
}

/* `fd` is about to be closed. */
static void forget(int fd)
{
    record(CLOSE, 0, fd, 0, NULL, NULL, NULL, 0);
    atomic_store(&files[fd].known, 0);
}

/* Without the lock, also in signal handlers: nearly all calls are for sockets and end here. */
static int is_known(int fd)
{
    return fd >= 0 && fd < MAX_FDS && atomic_load_explicit(&files[fd].known, memory_order_acquire);
}

/* With the lock. A descriptor that now is another file was closed where it could not be seen (closedir). */
static int is_still_known(int fd)
{
    struct stat stat;
    if (!is_known(fd))
        return 0;
    if (fstat(fd, &stat) == 0 && stat.st_dev == files[fd].dev && stat.st_ino == files[fd].ino)
        return 1;
    forget(fd);
    return 0;
}

/* ---- opening and closing ---- */

static int do_open(int dirfd, const char *path, int flags, mode_t mode)
{
    char name[PATH_MAX];
    if (!under_root(dirfd, path, name))
        return syscall(SYS_openat, dirfd, path, flags, mode);
    if ((flags & O_TMPFILE) == O_TMPFILE)
        return refused("open with O_TMPFILE", EOPNOTSUPP);
    pthread_mutex_lock(&lock);
    int creates = (flags & O_CREAT) && syscall(SYS_faccessat, dirfd, path, F_OK) != 0;
    operation(OPEN, (creates ? CREATES : 0) | (flags & O_TRUNC ? TRUNCATES : 0), -1, 0, name, NULL, NULL, 0);
    int fd = syscall(SYS_openat, dirfd, path, flags, mode);
    if (fd >= 0) {
        /* The number may have belonged to a file whose closing could not be seen. */
        if (is_known(fd))
            atomic_store(&files[fd].known, 0);
        know(fd);
    }
    result(fd);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags, last)                                                                                              \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list arguments;                                                                                             \
        va_start(arguments, last);                                                                                     \
        mode = va_arg(arguments, mode_t);                                                                              \
        va_end(arguments);                                                                                             \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags, flags)
    return do_open(AT_FDCWD, path, flags, mode);
}
ALSO(open64, open)

int openat(int dirfd, const char *path, int flags, ...)
{
    MODE(flags, flags)
    return do_open(dirfd, path, flags, mode);
}
ALSO(openat64, openat)

int creat(const char *path, mode_t mode)
{
    return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
ALSO(creat64, creat)

int close(int fd)
{
    if (!is_known(fd))
        return syscall(SYS_close, fd);
    pthread_mutex_lock(&lock);
    if (is_known(fd))
        forget(fd);
    int closed = syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return closed;
}

/* `to` is -1 for the lowest free number. */
static int do_dup(int fd, int to, int flags, int command, long least)
{
    pthread_mutex_lock(&lock);
    int known = is_still_known(fd);
    if (to >= 0 && to != fd && is_known(to))
        forget(to);
    if (known)
        operation(DUP, 0, fd, 0, NULL, NULL, NULL, 0);
    int made = to >= 0 ? syscall(SYS_dup3, fd, to, flags) : syscall(SYS_fcntl, fd, command, least);
    if (known) {
        if (made >= 0)
            know(made);
        result(made);
    }
    pthread_mutex_unlock(&lock);
    return made;
}

int dup(int fd)
{
    return is_known(fd) ? do_dup(fd, -1, 0, F_DUPFD, 0) : syscall(SYS_dup, fd);
}

int dup2(int fd, int to)
{
    return fd == to ? (fcntl(fd, F_GETFD) < 0 ? -1 : fd) : do_dup(fd, to, 0, 0, 0);
}

int dup3(int fd, int to, int flags)
{
    return do_dup(fd, to, flags, 0, 0);
}

int fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && is_known(fd))
        return do_dup(fd, -1, 0, command, argument);
    return syscall(SYS_fcntl, fd, command, argument);
}
ALSO(fcntl64, fcntl)

/* ---- data ---- */

/* `offset` is -1 for the file's own position. */
static ssize_t do_write(int fd, const struct iovec *parts, int count, off_t offset)
{
    pthread_mutex_lock(&lock);
    int known = is_still_known(fd);
    if (known) {
        off_t place = offset;
        if (syscall(SYS_fcntl, fd, F_GETFL, 0) & O_APPEND) {
            struct stat stat;
            if (fstat(fd, &stat))
                die("fstat");
            place = stat.st_size;
        } else if (offset < 0) {
            place = syscall(SYS_lseek, fd, 0, SEEK_CUR);
        }
        operation(WRITE, 0, fd, place, NULL, NULL, parts, count);
    } else {
        pthread_mutex_unlock(&lock); /* a socket may block */
    }
    ssize_t written = offset < 0 ? syscall(SYS_writev, fd, parts, (long)count)
                                 : syscall(SYS_pwritev, fd, parts, (long)count, (long)offset, 0L);
    if (known) {
        result(written);
        pthread_mutex_unlock(&lock);
    }
    return written;
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    if (!is_known(fd))
        return syscall(SYS_write, fd, bytes, len);
    struct iovec part = {(void *)bytes, len};
    return do_write(fd, &part, 1, -1);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return is_known(fd) ? do_write(fd, parts, count, -1) : syscall(SYS_writev, fd, parts, (long)count);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    if (!is_known(fd))
        return syscall(SYS_pwrite64, fd, bytes, len, offset);
    struct iovec part = {(void *)bytes, len};
    return do_write(fd, &part, 1, offset);
}
ALSO(pwrite64, pwrite)

static ssize_t do_pwritev(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    /* The flags ask for speed or for a sync, which is not promised here. */
    return is_known(fd) ? do_write(fd, parts, count, offset)
                        : syscall(SYS_pwritev2, fd, parts, (long)count, (long)offset, 0L, (long)flags);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return do_pwritev(fd, parts, count, offset, 0);
}
ALSO(pwritev64, pwritev)

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return do_pwritev(fd, parts, count, offset, flags);
}
ALSO(pwritev64v2, pwritev2)

int ftruncate(int fd, off_t len)
{
    if (!is_known(fd))
        return syscall(SYS_ftruncate, fd, len);
    pthread_mutex_lock(&lock);
    int known = is_still_known(fd);
    if (known)
        operation(TRUNCATE, 0, fd, len, NULL, NULL, NULL, 0);
    int done = syscall(SYS_ftruncate, fd, len);
    if (known)
        result(done);
    pthread_mutex_unlock(&lock);
    return done;
}
ALSO(ftruncate64, ftruncate)

/* ---- syncs ---- */

static void wait_for_the_disk(void)
{
    static _Thread_local uint64_t random;
    struct timespec now;
    if (!sync_delay_us)
        return;
    if (!random) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        random = now.tv_nsec * 0x9E3779B97F4A7C15u + (uintptr_t)&random;
    }
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    long micros = random % (sync_delay_us + 1);
    struct timespec pause = {micros / 1000000, micros % 1000000 * 1000};
    nanosleep(&pause, NULL);
}

/* What was written before it began is durable once it has ended. fdatasync does all that is modelled of fsync: both make
 * the bytes and the length durable; the name is the directory's, which has to be synced itself. */
static int do_sync(int fd, long call)
{
    if (!is_known(fd))
        return syscall(call, fd);
    pthread_mutex_lock(&lock);
    if (!is_still_known(fd)) {
        pthread_mutex_unlock(&lock);
        return syscall(call, fd);
    }
    int64_t number = ++syncs;
    operation(SYNC_BEGIN, 0, fd, number, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    wait_for_the_disk();
    pthread_mutex_lock(&lock);
    operation(SYNC_END, 0, -1, number, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd)
{
    return do_sync(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return do_sync(fd, SYS_fdatasync);
}

/* ---- names ---- */

/* An operation on one path or two, both under the root. */
#define NAMED(kind, first, second, call)                                                                               \
    pthread_mutex_lock(&lock);                                                                                         \
    operation(kind, 0, -1, 0, first, second, NULL, 0);                                                                 \
    int done = result(call);                                                                                           \
    pthread_mutex_unlock(&lock);                                                                                       \
    return done;

static int do_rename(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    char first[PATH_MAX], second[PATH_MAX];
    int leaves = under_root(from_dir, from, first), enters = under_root(to_dir, to, second);
    if (!leaves && !enters)
        return syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (leaves != enters || (flags & ~1u /* RENAME_NOREPLACE */))
        return refused("rename across the root, or with flags", EINVAL);
    NAMED(RENAME, first, second, syscall(SYS_renameat2, from_dir, from, to_dir, to, flags))
}

int rename(const char *from, const char *to)
{
    return do_rename(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return do_rename(from_dir, from, to_dir, to, 0);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return do_rename(from_dir, from, to_dir, to, flags);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    char first[PATH_MAX], second[PATH_MAX];
    int leaves = under_root(from_dir, from, first), enters = under_root(to_dir, to, second);
    if (!leaves && !enters)
        return syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    if (leaves != enters)
        return refused("link across the root", EXDEV);
    NAMED(LINK, first, second, syscall(SYS_linkat, from_dir, from, to_dir, to, flags))
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int dirfd, const char *path, int flags)
{
    char name[PATH_MAX];
    if (!under_root(dirfd, path, name))
        return syscall(SYS_unlinkat, dirfd, path, flags);
    NAMED(flags & AT_REMOVEDIR ? RMDIR : UNLINK, name, NULL, syscall(SYS_unlinkat, dirfd, path, flags))
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int remove(const char *path)
{
    int done = unlinkat(AT_FDCWD, path, 0);
    return done && errno == EISDIR ? unlinkat(AT_FDCWD, path, AT_REMOVEDIR) : done;
}

int mkdirat(int dirfd, const char *path, mode_t mode)
{
    char name[PATH_MAX];
    if (!under_root(dirfd, path, name))
        return syscall(SYS_mkdirat, dirfd, path, mode);
    NAMED(MKDIR, name, NULL, syscall(SYS_mkdirat, dirfd, path, mode))
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* ---- what is refused or declined ---- */

int symlinkat(const char *target, int dirfd, const char *path)
{
    char name[PATH_MAX];
    return under_root(dirfd, path, name) ? refused("symlink", EPERM) : syscall(SYS_symlinkat, target, dirfd, path);
}

int symlink(const char *target, const char *path)
{
    return symlinkat(target, AT_FDCWD, path);
}

int truncate(const char *path, off_t len)
{
    char name[PATH_MAX];
    return under_root(AT_FDCWD, path, name) ? refused("truncate", EPERM) : syscall(SYS_truncate, path, len);
}
ALSO(truncate64, truncate)

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    return is_known(fd) ? refused("fallocate", EOPNOTSUPP) : syscall(SYS_fallocate, fd, mode, offset, len);
}
ALSO(fallocate64, fallocate)

int posix_fallocate(int fd, off_t offset, off_t len)
{
    return fallocate(fd, 0, offset, len) ? errno : 0;
}
ALSO(posix_fallocate64, posix_fallocate)

static int is_shared_write(int fd, int protection, int flags)
{
    return is_known(fd) && (protection & PROT_WRITE) && (flags & 0x0f /* MAP_TYPE */) != MAP_PRIVATE;
}

void *mmap(void *address, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (!(flags & MAP_ANONYMOUS) && is_shared_write(fd, protection, flags)) {
        refused("a shared writable mmap", EACCES);
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, address, len, (long)protection, (long)flags, (long)fd, offset);
}
ALSO(mmap64, mmap)

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t len, unsigned flags)
{
    if (is_known(out)) {
        errno = ENOSYS; /* std::fs::copy then reads and writes */
        return -1;
    }
    return syscall(SYS_copy_file_range, in, in_offset, out, out_offset, len, flags);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t len)
{
    if (is_known(out)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_sendfile, out, in, offset, len);
}
ALSO(sendfile64, sendfile)

ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t len, unsigned flags)
{
    if (is_known(out)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_splice, in, in_offset, out, out_offset, len, flags);
}

int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags)
{
    return is_known(fd) ? 0 : syscall(SYS_sync_file_range, fd, offset, len, flags);
}
