// Tells the process that started this one how it is, as sd_notify(3) does.
//
//   notifyServiceManager(path, state)  sends `state` as one datagram to the unix socket at `path`;
//                                      a path that begins with @ is in the abstract namespace
//
// It never waits: the data path does not stop because a service manager does not listen. Failed
// system calls throw {code, errno, syscall}.
#pragma once

#include <napi.h>

namespace aoe {

void RegisterServiceManager(Napi::Env env, Napi::Object exports);

}  // namespace aoe
