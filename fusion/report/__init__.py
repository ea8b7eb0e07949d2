"""The benchmark's page: one HTML file with its pictures, tables and plots inside."""
