// Measures what clients ask of the broker against their quotas, and says for how long one that is
// too fast is to be left alone. As Kafka measures: rates over the last eleven seconds, of which ten
// count at least, so that a client which was quiet may have ten seconds' worth at once; partitions
// made and deleted by a bucket of eleven seconds' worth, which is emptied in one go. Any thread.
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
  /// What a thread has spent on a request (kRequest). As in Kafka for a second at most.
  int32_t countTime(const Principal& principal, int64_t micros, int64_t nowMs);
  /// Partitions made or deleted (kMutation). `strict`: none are counted, and none may be, where the
  /// client has to be held; otherwise they are counted whatever there is left.
  int32_t countMutation(const Principal& principal, double partitions, bool strict, int64_t nowMs);
  /// A connection of the address (kConnection), which isn't counted if it has to be held: for a
  /// second at most, before it is closed.
  int32_t countConnection(const std::string& ip, int64_t nowMs);

  struct FetchVerdict {
    int32_t holdMs = 0;
    bool given = true;  ///< counted, to be answered with; otherwise it is to be asked for again
  };
  /// Octets that a fetch has found. They are not given to who would pass the quota by them, unless
  /// nothing else is counted, when waiting longer would not help. `mayGive`: whether they may be.
  FetchVerdict countFetch(const Principal& principal, size_t octets, bool mayGive, int64_t nowMs);
  /// The most that one fetch should be answered with: what is left of what its quota gives in ten
  /// seconds, so that others who share it don't keep it from ever fitting; 1 if nothing is left.
  size_t largestFetch(const Principal& principal, size_t otherwise, int64_t nowMs);
  /// 0, or for how many milliseconds a fetch would have to be held, whatever it found.
  int32_t fetchHold(const Principal& principal, int64_t nowMs) {
    return countFetch(principal, 0, true, nowMs).holdMs;
  }

 private:
  /// What came in the last seconds; of mutations, the bucket.
  class Window {
   public:
    void add(double amount, int64_t nowMs);
    double total() const;
    /// In milliseconds: how much too early the client is.
    double ahead(double limit, int64_t nowMs) const;
    /// In milliseconds: when `amount` more would keep to the limit, or nothing else is counted.
    int32_t wait(double amount, double limit, int64_t nowMs) const;
    /// Takes from the bucket, filled up to now; if `strict`, only while it isn't below 0. What
    /// counts then: what was found, or what is left.
    double take(double amount, double rate, bool strict, int64_t nowMs);
    bool over(int64_t nowMs) const;

   private:
    static constexpr size_t kSeconds = 11;
    std::array<double, kSeconds> sums_{};
    int64_t second_ = 0;  ///< of the newest sum
    std::optional<double> tokens_;
    int64_t filledMs_ = 0;
  };

  std::optional<QuotaSet::Match> find(QuotaKind kind, const Principal& principal) const;
  Window& windowOf(QuotaKind kind, QuotaEntity&& shared, int64_t nowMs);
  int32_t countAmount(QuotaKind kind, const Principal& principal, double amount, int64_t nowMs);

  const QuotaControl* quotas_;
  std::mutex mutex_;
  std::map<std::pair<QuotaKind, QuotaEntity>, Window> windows_;
  int64_t sweptMs_ = 0;
};

}  // namespace polylog::kafka
