#include "network_interface.h"

#include <net/if.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

namespace aoe {

double NetworkInterface::mac_number() const {
  double number = 0;
  for (const uint8_t octet : mac) number = number * 256 + octet;
  return number;
}

SystemError ReadInterface(int fd, const std::string& name, NetworkInterface* interface) {
  ifreq request{};
  if (name.size() >= sizeof request.ifr_name) return {ENODEV, "ioctl(SIOCGIFINDEX)"};
  std::memcpy(request.ifr_name, name.data(), name.size());
  if (ioctl(fd, SIOCGIFINDEX, &request) < 0) return {errno, "ioctl(SIOCGIFINDEX)"};
  interface->index = request.ifr_ifindex;
  if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) return {errno, "ioctl(SIOCGIFFLAGS)"};
  interface->up = (request.ifr_flags & IFF_UP) != 0;
  interface->connected = (request.ifr_flags & IFF_RUNNING) != 0;
  if (ioctl(fd, SIOCGIFHWADDR, &request) < 0) return {errno, "ioctl(SIOCGIFHWADDR)"};
  interface->type = request.ifr_hwaddr.sa_family;
  std::memcpy(interface->mac.data(), request.ifr_hwaddr.sa_data, interface->mac.size());
  if (ioctl(fd, SIOCGIFMTU, &request) < 0) return {errno, "ioctl(SIOCGIFMTU)"};
  interface->mtu = static_cast<uint32_t>(request.ifr_mtu);
  return {};
}

}  // namespace aoe
