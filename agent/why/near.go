package why

// Near reports whether a name is one that somebody may have meant: at most two letters
// are wrong, missing or too many, and fewer than half of them.
func Near(name, meant string) bool {
	most := min(2, len(meant)/2)
	return most > 0 && max(len(name)-len(meant), len(meant)-len(name)) <= most && distance(name, meant) <= most
}

// distance is Levenshtein's, row by row.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
