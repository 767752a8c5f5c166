// Package alert decides what an administrator has to be told: hosts that fall silent, records
// that are lost, auditing that is switched off, the collector's own troubles. Conditions are
// looked at every some seconds against what the head knows of each host, become alerts that
// fire and are resolved, and are told to sinks in groups. FORMAT.md has the file in which
// alerts are kept over restarts. The collector's server wires it, and its command line has the
// table of conditions; it imports head, ledger, store and pkg.
//
// All durations are counted in the evaluator's own time (Evaluator.up), which goes on while the
// collector runs and not while it is stopped, suspended or its clock is set: a collector that
// has just started must not call every host silent.
//
// Evaluator.mu guards everything that is evaluated. What it asks (Sources) must not call it.
package alert
