// Measures what clients produce and fetch against their quotas, and says for how long one that is
// too fast is to be left alone. As Kafka measures: over the last eleven seconds, of which ten count
// at least, so that a client which was quiet may send ten seconds' worth at once. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "core/model/quotas.h"

namespace polylog::kafka {

class QuotaMeter {
 public:
  explicit QuotaMeter(const QuotaControl* quotas) : quotas_(quotas) {}

  /// Counts octets. 0, or for how many milliseconds the client has to be held.
  int32_t count(QuotaKind kind, const Principal& principal, size_t octets, int64_t nowMs);
  /// The most that one fetch should be answered with: what its quota gives in ten seconds.
  size_t largestFetch(const Principal& principal, size_t otherwise) const;

 private:
  /// Octets of the last seconds.
  class Window {
   public:
    void add(double octets, int64_t nowMs);
    /// In milliseconds: how much too early the client is.
    double ahead(double limit, int64_t nowMs) const;
    bool over(int64_t nowMs) const;

   private:
    static constexpr size_t kSeconds = 11;
    std::array<double, kSeconds> sums_{};
    int64_t second_ = 0;  ///< of the newest sum
  };

  std::optional<QuotaSet::Match> find(QuotaKind kind, const Principal& principal) const;
  Window& windowOf(QuotaKind kind, QuotaEntity&& shared, int64_t nowMs);

  const QuotaControl* quotas_;
  std::mutex mutex_;
  std::map<std::pair<QuotaKind, QuotaEntity>, Window> windows_;
  int64_t sweptMs_ = 0;
};

}  // namespace polylog::kafka
