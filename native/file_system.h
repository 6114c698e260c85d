// What can be told of an open file and of the file system that it lies on.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace aoe {

// On tmpfs, or a memfd: reading and writing never block. False when it cannot be told.
bool IsMemoryFile(int fd);

// Served by another machine or by a program (NFS, SMB, FUSE and the like): whatever is done with it
// may wait for that one, even a read of what is cached, as its file system asks first whether the
// file has changed. RWF_NOWAIT and io_uring do not keep it from that. False when it cannot be told.
bool IsRemoteFile(int fd);

// May the page cache have all of a range? True when the kernel does not tell.
bool MayBeCached(int fd, size_t length, off_t offset);

// Reads `length` bytes from `offset` on, if the page cache has all of them. When it returns false they
// are to be read by somebody who can wait; `data` is then undefined. Whoever has not asked
// MayBeCached may wait here as well: what is not there begins to be read.
bool TryRead(int fd, void* data, size_t length, off_t offset);

// Both of these: reads what is cached, without waiting for the disk.
bool ReadCached(int fd, void* data, size_t length, off_t offset);

// Read or write what is left behind `*done` bytes, by as many calls as it takes. Return 0 or an errno.
// Reading ends at the end of the file, with less done than asked for.
int ReadOn(int fd, void* data, size_t length, off_t offset, size_t* done);
int WriteOn(int fd, const void* data, size_t length, off_t offset, size_t* done);

// Makes a system call again for as long as a signal interrupts it, as a program that serves the file
// may let it: then it has neither failed nor succeeded. Returns 0 or an errno.
template <typename Call>
int Uninterrupted(Call call) {
  while (call() < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

// fdatasync. Returns 0 or an errno; from then on what the disk has is read, and not what it should have.
int FlushData(int fd);

// Gives the room of a range back: zeroes remain. Returns 0 or an errno.
int PunchHole(int fd, off_t offset, off_t length);

// Lets reads leave the file's time of access alone, but not when it belongs to another user. To change
// it is a write: a read of what is cached would wait for the file system's journal.
void KeepAccessTime(int fd);

struct FileLook {
  uint16_t mode;        // st_mode
  uint32_t link_count;
  uint64_t size_bytes;
};

enum class Freshness {
  kAsked,  // a file system served elsewhere may be asked, and may block
  kKnown,  // what this machine knows: never blocks
};

// Returns 0 or an errno.
//
// Not by fstat: it asks for the time of change as well, and a file whose time somebody has seen gets
// a new one by its next write. Each flush would then write the inode too.
int LookAt(int fd, Freshness freshness, FileLook* look);

}  // namespace aoe
