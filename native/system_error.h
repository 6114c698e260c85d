// A failed system call on its way to JavaScript.
#pragma once

// Not <napi.h>: what is plain C++ fails, too.
namespace Napi {
class Env;
class Value;
}  // namespace Napi

namespace aoe {

// What failed: errno and the name of the call. `error == 0` means that nothing did.
struct SystemError {
  int error = 0;
  const char* syscall = "";

  explicit operator bool() const { return error != 0; }
};

// Throws into JavaScript an Error with `code` ("EPERM"), `errno` (positive) and `syscall`.
void ThrowSystemError(Napi::Env env, SystemError failure);

// The same for whoever returns a value: undefined.
Napi::Value Fail(Napi::Env env, SystemError failure);

}  // namespace aoe
