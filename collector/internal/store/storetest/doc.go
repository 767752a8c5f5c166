// Package storetest holds the tests that every store must pass, a reference
// store that is too simple to be wrong, and a generator of realistic logs. Only
// tests may import it.
package storetest
