// Package last finds in an audit log who was logged in, when and from where, as aulast
// does (Run), and when each account last logged in, as aulastlog does (RunLogins).
//
// A Sessions gets the events of one log in their order and writes a line as each session
// ends. Both commands read any query.Source, so a log and a collector's store give the
// same answer. The stock tools of version 3.0.9 are the model; DIFFERENCES.md has what is
// otherwise, and why.
//
// The command lines of both programs may import it.
package last
