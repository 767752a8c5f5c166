// Package store is what the collector asks of a place where events are kept: take
// a batch once, answer a query in order, count, forget a day. store/bolt is the
// embedded one; storetest holds the tests every store must pass and a reference
// that is too simple to be wrong. It also has Table, the events of many hosts in
// memory, which the head fills and a store takes. The head, the server's wiring
// and other stores may import it; it imports pkg only.
package store
