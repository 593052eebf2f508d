// Knows nothing of cascada: calls the shared library that does.
int consume();

int main() { return consume(); }
