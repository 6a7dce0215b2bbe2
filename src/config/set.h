/* --set path=value: one field of a message, found by its path and given a value. */
#ifndef DT_CONFIG_SET_H
#define DT_CONFIG_SET_H

#include "base/status.h"  // dt_status
#include "config/place.h" // dt_places
#include <protobuf-c/protobuf-c.h>

/** Applies "path=value". The path's messages are made where they are not there; a member of a oneof is selected by
 * naming it. A repeated field takes an index, which appends where it equals the count; without one, all elements are
 * replaced, or, on the way to a field of an element, the only one is meant. A string stands as it is or in quotes;
 * messages and lists are text format. On an error the message is half changed. */
dt_status dt_set_apply(ProtobufCMessage *message, const char *set, dt_places *places) DT_WARN_UNUSED;

#endif
