// Package group encodes and decodes a group: events at rest, of one batch (Encode) or of many (Builder). A group has
// compressed frames of text, a table of blocks (events of one host in a row), and for each
// field a dictionary of values with the events that have them. It is one run of bytes
// that needs nothing else to be read; FORMAT.md describes it. The package knows no files.
// Stores (store/bolt) may import it; it imports store and pkg.
//
// Events of a group are numbered through all blocks from 0, in the order in which they
// lie there: such a number is an ordinal. A set of events is a bitset by ordinal.
//
// The bytes given to Open may be mapped from a file, and may be anything: every count,
// offset and length is checked before it is used, and every section against its CRC-32C
// when it is read. What Plan, Text and Origins return holds none of these bytes, and so
// outlives the mapping.
package group
