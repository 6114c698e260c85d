#include "privileges.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "system_error.h"

namespace aoe {

namespace {

Napi::Value FindUser(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string name = info[0].As<Napi::String>();
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 16384> strings;
  getpwnam_r(name.c_str(), &entry, strings.data(), strings.size(), &found);
  if (found == nullptr) return env.Undefined();
  auto user = Napi::Object::New(env);
  user.Set("uid", Napi::Number::New(env, entry.pw_uid));
  user.Set("gid", Napi::Number::New(env, entry.pw_gid));
  return user;
}

void KeepCapabilities(const Napi::CallbackInfo& info) {
  if (prctl(PR_SET_KEEPCAPS, 1) < 0) ThrowSystemError(info.Env(), {errno, "prctl(PR_SET_KEEPCAPS)"});
}

void SetUser(const Napi::CallbackInfo& info) {
  const uid_t uid = info[0].As<Napi::Number>().Uint32Value();
  const gid_t gid = info[1].As<Napi::Number>().Uint32Value();
  // The C library applies these to all threads.
  if (setgroups(0, nullptr) < 0) return ThrowSystemError(info.Env(), {errno, "setgroups"});
  if (setresgid(gid, gid, gid) < 0) return ThrowSystemError(info.Env(), {errno, "setresgid"});
  if (setresuid(uid, uid, uid) < 0) return ThrowSystemError(info.Env(), {errno, "setresuid"});
}

void ReduceCapabilities(const Napi::CallbackInfo& info) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  sets[0].effective = 1U << CAP_NET_RAW;
  sets[0].permitted = 1U << CAP_NET_RAW;
  if (syscall(SYS_capset, &header, sets.data()) < 0) {
    return ThrowSystemError(info.Env(), {errno, "capset"});
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    ThrowSystemError(info.Env(), {errno, "prctl(PR_SET_NO_NEW_PRIVS)"});
  }
}

}  // namespace

void RegisterPrivileges(Napi::Env env, Napi::Object exports) {
  exports.Set("findUser", Napi::Function::New<FindUser>(env));
  exports.Set("keepCapabilities", Napi::Function::New<KeepCapabilities>(env));
  exports.Set("setUser", Napi::Function::New<SetUser>(env));
  exports.Set("reduceCapabilities", Napi::Function::New<ReduceCapabilities>(env));
}

}  // namespace aoe
