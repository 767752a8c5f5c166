// Package soak holds the long runs, behind the build tag of the same name: `make
// soak`. Their small sisters run with every test.
package soak
