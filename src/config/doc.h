/* What dtrain.proto says about each field besides its type: meaning, default, range. protobuf-c drops the comments of
 * the .proto, so tools/protodoc.c turns them into this table at build time; it checks ranges and is the text of help.
 */
#ifndef DT_CONFIG_DOC_H
#define DT_CONFIG_DOC_H

/** One message (field NULL) or one of its fields. Strings are static; those that do not apply are NULL. */
typedef struct dt_config_doc {
    const char *message;  /* "Lora" */
    const char *field;    /* "rank" */
    const char *label;    /* "optional", "repeated", or "oneof method": at most one of that group */
    const char *type;     /* "int32", "string", "LABEL | EXPECTED", or the name of a message */
    const char *fallback; /* the default, as text */
    const char *range;    /* ">= 1", "[0..1)": what numbers are allowed */
    double lo, hi;        /* with range: its ends, hi infinite where there is none */
    int lo_open, hi_open; /* is the end itself excluded? */
    const char *doc;      /* the comment without its range; paragraphs are separated by an empty line */
} dt_config_doc;

/** In the order of the .proto: a message, then its fields, then the next message. */
extern const dt_config_doc dt_config_docs[];
extern const int dt_config_doc_count;

/** The row of `field` of `message`, or of the message itself where field is NULL; NULL if there is none. */
const dt_config_doc *dt_config_doc_find(const char *message, const char *field);

#endif
