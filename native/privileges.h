// Gives up root, except for raw sockets, which a link that comes back needs again.
//
//   findUser(name)        {uid, gid}, or undefined when there is no such user
//   keepCapabilities()    the calling thread will keep its capabilities over setUser()
//   setUser(uid, gid)     the whole process becomes that user, without further groups
//   reduceCapabilities()  the calling thread keeps CAP_NET_RAW and nothing else, for good
//
// Linux keeps capabilities by thread: each thread that must open sockets later calls
// keepCapabilities() before, and reduceCapabilities() after. All others lose theirs in setUser().
#pragma once

#include <napi.h>

namespace aoe {

void RegisterPrivileges(Napi::Env env, Napi::Object exports);

}  // namespace aoe
