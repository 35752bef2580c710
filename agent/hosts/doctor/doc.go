// Package doctor has the tests of what a host says of itself: status, doctor, and the
// bundle that is sent to who shall help.
package doctor
