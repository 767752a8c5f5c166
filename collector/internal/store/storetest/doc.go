// Package storetest holds the tests that every place and every engine must pass, whoever
// implements it; a Reference and a Memory too simple to be wrong, to compare with; and a
// generator of realistic logs. Only tests may import it.
package storetest
