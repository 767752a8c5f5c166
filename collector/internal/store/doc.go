// Package store has the interfaces between the collector and whatever keeps its events,
// and the types that every implementation works with. There are two halves:
//
//   - A Place is what one collector must remember itself: up to which record of its
//     journal everything is stored, which records wait for their event to be complete, which
//     hosts and senders it knows. It is always a folder of files on the collector's own disk.
//   - Events are kept by an engine, which searches them, counts them, and drops them when
//     they are old. The embedded engine shares files and transactions with the place. An
//     engine elsewhere (an Engine) is handed each batch through the place's outbox.
//
// store/bolt is the place and the embedded engine, store/engine chooses the engine,
// and storetest holds the tests that each half must pass, whoever implements it. A Table
// holds the events of many hosts in memory: the head fills it and Place.Append stores it.
// The head, retention, the server's wiring and engines may import this package; it imports
// pkg only.
package store
