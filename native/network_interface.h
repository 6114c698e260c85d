// What the kernel says about a network interface, under any of its names.
// Plain C++: no N-API, no libuv.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "system_error.h"

namespace aoe {

struct NetworkInterface {
  int index = 0;
  uint32_t mtu = 0;
  uint16_t type = 0;  // ARPHRD_
  std::array<uint8_t, 6> mac{};
  bool up = false;         // brought up by the operator; a cable may still be missing
  bool connected = false;  // leads somewhere, as far as the kernel can tell

  double mac_number() const;  // the first octet is the most significant
};

// Asks by `fd`, a socket of any kind: what is told is of its network namespace.
SystemError ReadInterface(int fd, const std::string& name, NetworkInterface* interface);

}  // namespace aoe
