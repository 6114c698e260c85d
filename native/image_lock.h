// Locks that keep other processes off a file, and within this one two writers off one part of it.
//
//   lockImage(fd, start, end, writes)  takes an exclusive lock (flock) on the image behind fd, which
//                     serves what lies from byte `start` on and before `end`. Returns a lock; 0 when
//                     another process holds it; -1 when somebody here serves some of that as well,
//                     and one of both writes
//   unlockImage(lock)  gives it back. Returns the descriptor that has the image locked, for the caller
//                     to close, or -1 when others here have locked some of it. Asks nothing of the
//                     file, whose storage may be gone or hang: to close a file can take an answer
//
// A lock belongs to the file, by whatever name it was opened, and is known to all threads: one server
// may export several parts of one image, from several threads.
#pragma once

#include <napi.h>

namespace aoe {

void RegisterImageLock(Napi::Env env, Napi::Object exports);

}  // namespace aoe
