// Locks that keep other processes off a file, counted within this one.
//
//   lockImage(fd)      takes an exclusive lock (flock) on the image behind fd; undefined when another
//                     process holds it. A file that this process has locked is locked once more.
//   unlockImage(lock)  gives one of them back. Asks nothing of the file, whose storage may be gone
//
// A lock belongs to the file, not to a descriptor, and is known to all threads: one server may
// export several parts of one image, from several threads.
#pragma once

#include <napi.h>

namespace aoe {

void RegisterImageLock(Napi::Env env, Napi::Object exports);

}  // namespace aoe
