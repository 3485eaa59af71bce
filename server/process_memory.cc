#include "server/process_memory.h"

#include <unistd.h>

#include <cstdio>
#include <memory>

namespace polylog::server {

std::optional<ProcessMemory> processMemory() {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen("/proc/self/statm", "re"),
                                                       &std::fclose);
  long long whole = 0;
  long long resident = 0;
  long long shared = 0;
  if (!file || std::fscanf(file.get(), "%lld %lld %lld", &whole, &resident, &shared) != 3) {
    return std::nullopt;
  }
  const int64_t page = sysconf(_SC_PAGESIZE);
  return ProcessMemory{resident * page, (resident - shared) * page};
}

}  // namespace polylog::server
