// Package store says what the collector asks of the place where it keeps events, and
// has what every such place works with. There are two halves:
//
//   - a Place is what one collector must remember itself: how far it is in its journal,
//     which records wait for their event to be complete, which hosts and senders it knows.
//     It is always a folder of files on the collector's own disk.
//   - Events are kept by an engine: they are searched, counted, and dropped when they are
//     old. The embedded engine shares files and transactions with the place. Another one
//     (an Engine) is handed each batch through the place's outbox.
//
// store/bolt is the place and the embedded engine, store/engine chooses the engine,
// and storetest holds the tests that each half must pass whoever implements it. Table
// is the events of many hosts in memory: the head fills it and a place takes it. The
// head, retention, the server's wiring and engines may import this package; it imports pkg
// only.
package store
