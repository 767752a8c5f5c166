// Package dispatch hands records to the programs of plugins.d, as
// auditd-plugins(5) describes them: processes that read records from standard
// input, and the builtin af_unix and syslog. The wiring packages of both daemons
// may import it.
//
// Put never waits. Every plugin (for af_unix every client) has its own queue, bounded in
// records, and a goroutine that empties it; records that find no room are dropped for
// that plugin alone, counted and logged. A process that dies is started again and
// receives what the dead one had not read.
//
// Lock order: Dispatcher.mu, then a sink's mu, then plugin.mu or queue.mu. None is held
// over a write to a plugin, a wait or a callback.
package dispatch
