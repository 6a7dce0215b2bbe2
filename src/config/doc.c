/* Looking things up in the generated table of documentation. */
#include "config/doc.h"

#include <stddef.h> // NULL
#include <string.h> // strcmp

const dt_config_doc *dt_config_doc_find(const char *message, const char *field)
{
    for (int i = 0; i < dt_config_doc_count; i++) {
        const dt_config_doc *row = &dt_config_docs[i];
        if (strcmp(row->message, message) != 0 || (row->field == NULL) != (field == NULL)) continue;
        if (!field || strcmp(row->field, field) == 0) return row;
    }
    return NULL;
}
