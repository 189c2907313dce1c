/* Loaded before the C library: the disk fails as the file named by FAILING_DISK says, `flush` or `full`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(const char *how) {
    char said[16] = "";
    FILE *file = fopen(getenv("FAILING_DISK"), "r");
    if (!file) return 0;
    if (!fgets(said, sizeof said, file)) said[0] = 0;
    fclose(file);
    return strncmp(said, how, strlen(how)) == 0;
}

#define FAIL(how, code) if (fails(how)) { errno = code; return -1; }
#define REAL(name) (name##_type) dlsym(RTLD_NEXT, #name)

typedef int (*fsync_type)(int);
typedef int (*fdatasync_type)(int);
typedef ssize_t (*pwrite_type)(int, const void *, size_t, off_t);
typedef ssize_t (*pwrite64_type)(int, const void *, size_t, off64_t);

int fsync(int file) { FAIL("flush", EIO) return (REAL(fsync))(file); }
int fdatasync(int file) { FAIL("flush", EIO) return (REAL(fdatasync))(file); }
ssize_t pwrite(int file, const void *from, size_t n, off_t at) { FAIL("full", ENOSPC) return (REAL(pwrite))(file, from, n, at); }
ssize_t pwrite64(int file, const void *from, size_t n, off64_t at) { FAIL("full", ENOSPC) return (REAL(pwrite64))(file, from, n, at); }
