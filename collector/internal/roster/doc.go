// Package roster makes one of several collectors that keep their events in one cluster: each enters the list of them, which is in the cluster
// (store.Roster), and any of them answers for all. Only the collector's server may import it.
//
// What collectors have stored, any of them finds in the cluster. What one has received and not stored yet only that one has: so a
// question is asked of the others, too, of what is behind the last batch of theirs that the own answer has (query.Query.Own and
// Others), which makes each event part of exactly one answer. Of a collector that cannot be asked the answer says what it lacks
// (api.Lacks).
package roster
