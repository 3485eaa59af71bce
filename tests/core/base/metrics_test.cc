#include "core/base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace polylog {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Metrics, OneSeriesANameAndLabels) {
  Metric& first = counter("test_one_total", "One", "protocol=\"mqtt\"");
  EXPECT_EQ(&first, &counter("test_one_total", "One", "protocol=\"mqtt\""));
  EXPECT_NE(&first, &counter("test_one_total", "One", "protocol=\"kafka\""));
}

TEST(Metrics, PrintsPrometheusText) {
  counter("test_printed_total", "Things printed", "protocol=\"mqtt\"").add(3);
  counter("test_printed_total", "Things printed", "protocol=\"kafka\"").add();
  gauge("test_level", "A level").set(-7);
  std::string text = metricsText();
  EXPECT_THAT(text, HasSubstr("# HELP test_printed_total Things printed\n"
                              "# TYPE test_printed_total counter\n"
                              "test_printed_total{protocol=\"kafka\"} 1\n"
                              "test_printed_total{protocol=\"mqtt\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE test_level gauge\ntest_level -7\n"));
}

TEST(Metrics, HistogramBucketsArePowersOfTwo) {
  EXPECT_EQ(LatencyHistogram::bound(0), 64);
  EXPECT_EQ(LatencyHistogram::bound(1), 128);
  EXPECT_EQ(LatencyHistogram::bound(LatencyHistogram::kBuckets - 1),
            std::numeric_limits<int64_t>::max());
  for (size_t i = 0; i + 1 < LatencyHistogram::kBuckets; ++i) {
    LatencyHistogram histogram;
    histogram.observe(LatencyHistogram::bound(i));
    histogram.observe(LatencyHistogram::bound(i) + 1);
    EXPECT_EQ(histogram.count(i), 1) << i;
    EXPECT_EQ(histogram.count(i + 1), 1) << i;
  }
  LatencyHistogram edges;
  edges.observe(-5);
  edges.observe(0);
  edges.observe(std::numeric_limits<int64_t>::max());
  EXPECT_EQ(edges.count(0), 2);
  EXPECT_EQ(edges.count(LatencyHistogram::kBuckets - 1), 1);
}

TEST(Metrics, PrintsHistogramsInSecondsAndCumulated) {
  LatencyHistogram& histogram = latencyHistogram("test_wait_seconds", "Waiting", "kind=\"a\"");
  histogram.observe(50);
  histogram.observe(100);
  histogram.observe(100'000'000);
  std::string text = metricsText();
  EXPECT_THAT(text, HasSubstr("# TYPE test_wait_seconds histogram\n"
                              "test_wait_seconds_bucket{kind=\"a\",le=\"0.000064\"} 1\n"
                              "test_wait_seconds_bucket{kind=\"a\",le=\"0.000128\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("test_wait_seconds_bucket{kind=\"a\",le=\"+Inf\"} 3\n"
                              "test_wait_seconds_sum{kind=\"a\"} 100.000150\n"
                              "test_wait_seconds_count{kind=\"a\"} 3\n"));
}

TEST(Metrics, CountsFromManyThreads) {
  Metric& shared = counter("test_threads_total", "Threads");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      for (int n = 0; n < 1000; ++n) counter("test_threads_total", "Threads").add();
    });
  }
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(shared.value(), 4000);
}

TEST(MetricsSource, IsPrintedWhileItLives) {
  {
    MetricsSource source([](std::string& out) { out += "of_a_source 1\n"; });
    EXPECT_THAT(metricsText(), HasSubstr("of_a_source 1\n"));
  }
  EXPECT_THAT(metricsText(), Not(HasSubstr("of_a_source")));
}

// A deadlock otherwise: a scrape would hold what a first push waits for, and the other way round.
TEST(MetricsSource, MayRegisterMetrics) {
  MetricsSource source(
      [](std::string&) { counter("test_from_a_source", "Made while printed.").add(); });
  metricsText();
  EXPECT_THAT(metricsText(), HasSubstr("test_from_a_source 1\n"));
}

}  // namespace
}  // namespace polylog
