/* Notes over HTTP; README.md has what goes in and comes out. */
#ifndef NOTES_NOTE_API_H
#define NOTES_NOTE_API_H

#include "request.h"

handler_fn api_note_create, api_note_put, api_note_list, api_note_count;
handler_fn api_note_find, api_note_update, api_note_delete, api_note_restore;

#endif
