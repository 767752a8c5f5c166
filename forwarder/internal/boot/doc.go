// Package boot finds out whether processes can be audited in the present run of a
// machine: what the kernel's command line says, when auditing was first switched on,
// which processes are older than that, and in which namespaces this process runs. It
// reads files only below a root, so that tests can make one. Packages kernel, agent,
// doctor and cli of the forwarder may import it.
//
// The kernel allocates a process's audit context, in which its system calls are
// recorded, when it creates the process, and only if auditing has been on before in this
// boot (kernel/auditsc.c, audit_alloc): older processes are never audited, whatever the
// rules say.
package boot
