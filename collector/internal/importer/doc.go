// Package importer puts the records of old logs into a store, each once. Who goes through the logs is pkg/importing, in this
// process or another one; a Session is its Sink beside the store: it compares the records with those that are stored, puts
// the rest together into events, and has a Target store these in batches, each with a note of how far the files are.
//
// What is stored once is told by records. A file's records are compared, by host, time, serial and text, with
// all that the store had when the file was begun, each stored one standing for one of the file's: so
// identical records within one file stay as many as they are, and those that another file has, or that came from
// their sender, are stored once. What follows syslog's words or node= is the record: whether a record has these, or
// the names that a daemon appends, makes no other one of it. That the notes know files by their content
// only saves the comparing: see FORMAT.md.
//
// The server and the command line may import it.
package importer
