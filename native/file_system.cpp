#include "file_system.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace aoe {

namespace {

constexpr uint32_t kUnknown = 0;

// What <linux/magic.h> lacks.
constexpr uint32_t kBeegfsMagic = 0x19830326;
constexpr uint32_t kGfs2Magic = 0x01161970;
constexpr uint32_t kGpfsMagic = 0x47504653;
constexpr uint32_t kLustreMagic = 0x0bd00bd0;
constexpr uint32_t kOrangefsMagic = 0x20030528;
constexpr uint32_t kVboxsfMagic = 0x786f4256;
constexpr uint32_t kVmhgfsMagic = 0xbacbacbc;

constexpr uint32_t kRemoteMagics[] = {
    AFS_FS_MAGIC,      AFS_SUPER_MAGIC,  CEPH_SUPER_MAGIC, CIFS_SUPER_MAGIC,
    CODA_SUPER_MAGIC,  FUSE_SUPER_MAGIC, NCP_SUPER_MAGIC,  NFS_SUPER_MAGIC,
    OCFS2_SUPER_MAGIC, SMB2_SUPER_MAGIC, SMB_SUPER_MAGIC,  V9FS_MAGIC,
    kBeegfsMagic,      kGfs2Magic,       kGpfsMagic,       kLustreMagic,
    kOrangefsMagic,    kVboxsfMagic,     kVmhgfsMagic,
};

// What <linux/mman.h> lacks before Linux 6.5. The number is the same on all architectures.
constexpr long kCachestat = 451;

struct CachestatRange {
  uint64_t offset;
  uint64_t length;
};

struct Cachestat {
  uint64_t cached;  // pages, like all of it
  uint64_t dirty;
  uint64_t writeback;
  uint64_t evicted;
  uint64_t recently_evicted;
};

uint32_t MagicOf(int fd) {
  struct statfs stats {};
  return fstatfs(fd, &stats) < 0 ? kUnknown : static_cast<uint32_t>(stats.f_type);
}

}  // namespace

bool IsMemoryFile(int fd) { return MagicOf(fd) == TMPFS_MAGIC; }

bool IsRemoteFile(int fd) { return std::ranges::count(kRemoteMagics, MagicOf(fd)) > 0; }

bool MayBeCached(int fd, size_t length, off_t offset) {
  static const auto page_size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  CachestatRange range{.offset = static_cast<uint64_t>(offset), .length = length};
  Cachestat found{};
  if (syscall(kCachestat, fd, &range, &found, 0U) < 0) return true;
  const uint64_t pages = (range.offset + length - 1) / page_size - range.offset / page_size + 1;
  return found.cached == pages;
}

// RWF_NOWAIT alone starts to read a page that is not there, and waits when the disk's queue is full.
// Of pages that are there it starts none, and one that is still being read ends the try. What is left:
// some cached pages are marked for the kernel to read ahead when they are read, which may wait as well;
// a page may go after it was seen; and the kernel does not tell before Linux 6.5, nor where its call is
// forbidden, nor of a file that the process could not write.
bool TryRead(int fd, void* data, size_t length, off_t offset) {
  const iovec vector{.iov_base = data, .iov_len = length};
  return preadv2(fd, &vector, 1, offset, RWF_NOWAIT) == static_cast<ssize_t>(length);
}

bool ReadCached(int fd, void* data, size_t length, off_t offset) {
  return MayBeCached(fd, length, offset) && TryRead(fd, data, length, offset);
}

int ReadOn(int fd, void* data, size_t length, off_t offset, size_t* done) {
  while (*done < length) {
    const ssize_t moved = pread(fd, static_cast<std::byte*>(data) + *done, length - *done,
                                offset + static_cast<off_t>(*done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return errno;
    if (moved == 0) return 0;
    *done += static_cast<size_t>(moved);
  }
  return 0;
}

int WriteOn(int fd, const void* data, size_t length, off_t offset, size_t* done) {
  while (*done < length) {
    const ssize_t moved = pwrite(fd, static_cast<const std::byte*>(data) + *done, length - *done,
                                 offset + static_cast<off_t>(*done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return errno;
    if (moved == 0) return EIO;
    *done += static_cast<size_t>(moved);
  }
  return 0;
}

int FlushData(int fd) {
  const int error = Uninterrupted([=] { return fdatasync(fd); });
  // The kernel takes pages that it could not write for clean: as long as it keeps them they would be
  // read, by whoever opens the file anew as well, and later on what the disk has.
  if (error != 0) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  return error;
}

int PunchHole(int fd, off_t offset, off_t length) {
  constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return Uninterrupted([=] { return fallocate(fd, kMode, offset, length); });
}

void KeepAccessTime(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NOATIME); }

int LookAt(int fd, Freshness freshness, FileLook* look) {
  const int sync = freshness == Freshness::kKnown ? AT_STATX_DONT_SYNC : AT_STATX_SYNC_AS_STAT;
  struct statx found {};
  if (statx(fd, "", AT_EMPTY_PATH | sync, STATX_TYPE | STATX_NLINK | STATX_SIZE, &found) == 0) {
    *look = {found.stx_mode, found.stx_nlink, found.stx_size};
    return 0;
  }
  // Older sandboxes forbid what they do not know.
  struct stat stats {};
  if (fstat(fd, &stats) < 0) return errno;
  *look = {static_cast<uint16_t>(stats.st_mode), static_cast<uint32_t>(stats.st_nlink),
           static_cast<uint64_t>(stats.st_size)};
  return 0;
}

}  // namespace aoe
