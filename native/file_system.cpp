#include "file_system.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

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

uint32_t MagicOf(int fd) {
  struct statfs stats {};
  return fstatfs(fd, &stats) < 0 ? kUnknown : static_cast<uint32_t>(stats.f_type);
}

}  // namespace

bool IsMemoryFile(int fd) { return MagicOf(fd) == TMPFS_MAGIC; }

bool IsRemoteFile(int fd) { return std::ranges::count(kRemoteMagics, MagicOf(fd)) > 0; }

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
