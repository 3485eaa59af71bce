#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "server/config.h"

namespace polylog::server {

std::vector<Error> loadConfigFile(const std::string& path, Config& config) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) {
    return {{ErrorKind::kNotFound,
             fmt::format("can't read the configuration file {}: {}", path, std::strerror(errno))}};
  }
  return loadConfigText(text.str(), path, config);
}

}  // namespace polylog::server
