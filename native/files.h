// Small file functions that Node.js lacks.
//
//   allocateSlab(size)      ArrayBuffer of zeroed, page-aligned memory that never moves and is
//                           never freed: I/O may be in flight when its environment ends
//   preferLargePages(buffer)
//                           has the kernel back an ArrayBuffer by pages of 2 MiB as it is used, where
//                           it can: 512 times fewer faults, and less to look up at random places
//   createMemoryFile(name)  fd of an anonymous file in memory (memfd)
//   isMemoryFile(fd)        does it lie on tmpfs, where I/O never blocks?
//   knownFileSize(fd)       bytes, as far as this machine knows without asking a file system that
//                           is served elsewhere, which would block
//   lockFile(fd)            takes an exclusive lock (flock); false when another process holds it
//   canPunchHole(fd)        can its file system give back a range of it? (changes nothing)
//   blockDeviceSize(fd)     bytes (BLKGETSIZE64)
//   logicalBlockSize(fd)    bytes: what O_DIRECT must be aligned to
//
// Failed system calls throw {code, errno, syscall}.
#pragma once

#include <napi.h>

namespace aoe {

void RegisterFiles(Napi::Env env, Napi::Object exports);

}  // namespace aoe
