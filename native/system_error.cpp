#include "system_error.h"

#include <napi.h>
#include <uv.h>

#include <cstring>
#include <string>

namespace aoe {

void ThrowSystemError(Napi::Env env, SystemError failure) {
  const std::string message = std::string(failure.syscall) + ": " + std::strerror(failure.error);
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, uv_err_name(-failure.error)));
  error.Set("errno", Napi::Number::New(env, failure.error));
  error.Set("syscall", Napi::String::New(env, failure.syscall));
  error.ThrowAsJavaScriptException();
}

Napi::Value Fail(Napi::Env env, SystemError failure) {
  ThrowSystemError(env, failure);
  return env.Undefined();
}

}  // namespace aoe
