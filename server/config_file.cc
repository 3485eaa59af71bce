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
  // An empty file is fine; inserting nothing would count as a failure.
  bool readable =
      file && (file.peek() == std::ifstream::traits_type::eof() || text << file.rdbuf());
  if (!readable || file.bad()) {
    return {{ErrorKind::kNotFound,
             fmt::format("can't read the configuration file {}: {}", path, std::strerror(errno))}};
  }
  return loadConfigText(text.str(), path, config);
}

}  // namespace polylog::server
