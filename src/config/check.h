/* Validation: single values, and combinations that hold for any number of ranks. */
#ifndef DT_CONFIG_CHECK_H
#define DT_CONFIG_CHECK_H

#include "base/status.h"  // dt_status
#include "config/place.h" // dt_places
#include "dtrain.pb-c.h"  // Dtrain__Config

/** Every number given lies in the range of its field's comment and is finite there, every enum value is one that the
 * enum has, and no field is unknown (a binary may hold any of these). `path` is where `message` is. */
dt_status dt_check_values(const ProtobufCMessage *message, dt_path *path, const dt_places *places) DT_WARN_UNUSED;

/** What of dt_config_check needs to know neither the ranks nor the subcommand. Sub-messages must be filled in. */
dt_status dt_check_config(const Dtrain__Config *config, const dt_places *places) DT_WARN_UNUSED;

#endif
