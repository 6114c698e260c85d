// A failed system call on its way to JavaScript.
#pragma once

#include <napi.h>

namespace aoe {

// What failed: errno and the name of the call. `error == 0` means that nothing did.
struct SystemError {
  int error = 0;
  const char* syscall = "";

  explicit operator bool() const { return error != 0; }
};

// Throws into JavaScript an Error with `code` ("EPERM"), `errno` (positive) and `syscall`.
void ThrowSystemError(Napi::Env env, SystemError failure);

}  // namespace aoe
