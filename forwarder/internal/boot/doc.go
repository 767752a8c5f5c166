// Package boot knows what of the present run of a machine decides whether its
// processes can be audited: what the kernel's command line says, when auditing was
// first switched on, which processes are older than that, and in which namespaces
// this one runs. All it reads lies below a root, so that tests can make one. Packages
// kernel, agent, doctor and cli of the forwarder may import it.
//
// The kernel gives a process what its system calls are recorded in when the process is
// made, and only once auditing has been on in this boot (kernel/auditsc.c,
// audit_alloc): older processes are never audited, whatever the rules say.
package boot
