// What can be told of an open file and of the file system that it lies on.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace aoe {

// On tmpfs, or a memfd: reading and writing never block. False when it cannot be told.
bool IsMemoryFile(int fd);

// Served by another machine or by a program (NFS, SMB, FUSE and the like): whatever is done with it
// may wait for that one, even a read of what is cached, as its file system asks first whether the
// file has changed. RWF_NOWAIT and io_uring do not keep it from that. False when it cannot be told.
bool IsRemoteFile(int fd);

// Reads `length` bytes from `offset` on, if the page cache has all of them, without waiting for the
// disk. When it returns false they are to be read by somebody who can wait; `data` is then undefined.
bool ReadCached(int fd, void* data, size_t length, off_t offset);

// Read or write what is left behind `*done` bytes, by as many calls as it takes. Return 0 or an errno.
// Reading ends at the end of the file, with less done than asked for.
int ReadOn(int fd, void* data, size_t length, off_t offset, size_t* done);
int WriteOn(int fd, const void* data, size_t length, off_t offset, size_t* done);

// fdatasync. Returns 0 or an errno. One that a signal interrupts, as a program that serves the file may
// let it, has neither failed nor succeeded, and is done again.
int FlushData(int fd);

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
