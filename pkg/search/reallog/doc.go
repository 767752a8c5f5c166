// Package reallog records audit logs from this machine's kernel for tests: a
// stock auditd, rules narrowed to the test's own folder and program, and a
// workload that makes every kind of record it can provoke. Only tests (of
// pkg/search, pkg/report and integration) may import it.
package reallog
