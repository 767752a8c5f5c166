// Package trace runs one program under audit rules of its own, as autrace does:
// a child waits until rules for its process number (or, to follow all its
// children, for an audit session made for it) are loaded, then becomes the
// program; when it ends the rules go, whatever happens. A second process, the
// guard, deletes them should this one be killed.
//
// Both helpers are this same binary under another argv[0]: main must call Helper
// first. Only the forwarder's command line imports this package.
package trace
