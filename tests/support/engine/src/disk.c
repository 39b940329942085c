/* A full disk for one process, where no file system can be mounted: loaded before everything else (LD_PRELOAD). While the
   first byte of the file that $CEREBELUM_TEST_DISK names is not zero, writes to files fail. Files without a name are
   memory, and a file that is appended to is a log: both stay as they are. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const volatile char *full;

__attribute__((constructor)) static void open_file(void) {
  const char *path = getenv("CEREBELUM_TEST_DISK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *map = mmap(NULL, 1, PROT_READ, MAP_SHARED, file, 0);
  if (map != MAP_FAILED) full = map;
  close(file);
}

static int has_no_room(int file) {
  struct stat about;
  if (!full || !*full || fstat(file, &about) != 0 || !S_ISREG(about.st_mode) || about.st_nlink == 0) return 0;
  if (fcntl(file, F_GETFL) & O_APPEND) return 0;
  errno = ENOSPC;
  return 1;
}

ssize_t write(int file, const void *bytes, size_t count) {
  return has_no_room(file) ? -1 : syscall(SYS_write, file, bytes, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
  return has_no_room(file) ? -1 : syscall(SYS_pwrite64, file, bytes, count, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
  return has_no_room(file) ? -1 : syscall(SYS_pwrite64, file, bytes, count, at);
}
