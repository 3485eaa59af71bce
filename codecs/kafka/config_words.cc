#include "codecs/kafka/config_words.h"

#include <algorithm>

namespace polylog::kafka {

BytesView trimmed(BytesView text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

std::vector<std::string> wordsOf(BytesView list) {
  std::vector<std::string> words;
  while (!list.empty()) {
    size_t comma = std::min(list.find(','), list.size());
    BytesView word = trimmed(list.substr(0, comma));
    if (!word.empty()) words.emplace_back(word);
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return words;
}

}  // namespace polylog::kafka
