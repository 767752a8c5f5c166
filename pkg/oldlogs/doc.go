// Package oldlogs finds audit logs that lie in files and folders, of any age and of many
// hosts, tells what is in them, and reads their records with the oldest file first.
//
// Find looks at the beginning and the end of each file only: it says what is a log, when
// its first and last events were, whose it is, and which file has the same content as
// another, as a rotated log and its compressed copy have. Set.Read then passes each record
// with its host to an importer. Neither keeps more of a file in memory than a line, and
// what its compression needs.
//
// Whoever imports logs may import it. It knows nothing of stores.
package oldlogs
