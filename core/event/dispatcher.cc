#include "core/event/dispatcher.h"

namespace polylog {
namespace {
thread_local Dispatcher* currentDispatcher = nullptr;
}  // namespace

Dispatcher* Dispatcher::current() { return currentDispatcher; }
void Dispatcher::setCurrent(Dispatcher* dispatcher) { currentDispatcher = dispatcher; }

}  // namespace polylog
