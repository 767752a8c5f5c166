// Package group is the format of one batch of events at rest: compressed frames
// of text, a table of blocks (a host's events in a row), and for each field a
// dictionary of values with the events that have them. A group is one run of
// bytes that needs nothing else to be read; FORMAT.md describes it. It knows no
// files. Stores (store/bolt) may import it; it imports store and pkg.
//
// Bytes given to Open may be mapped from a file: everything is checked before it
// is believed, sections by CRC-32C when they are used. What Plan and Text return
// are copies.
package group
